"""Ordinary tests that can't be run under the Windows Python -> skipped, each with its reason, which the end shows."""

from collections.abc import Iterator

import pytest

# What a test needs that Windows has not -> the tests; "[writev]" stands for all with this parameter.
_SYSTEM = {
    "there is no os.writev": (
        "[writev]",
        "test_a_full_disk_fails_one_file_and_says_why",
        "test_a_failure_is_told_at_the_end_and_the_rest_is_taken_without_a_word",
        "test_a_failure_to_write_and_to_close_leaves_no_temporary_file",
    ),
    "there is no renameat2, and no need to do without it": (
        "test_a_free_name_is_taken_there_too",
        "test_a_taken_name_is_left_alone_there_too",
        "test_of_two_threads_that_want_a_name_one_gets_it",
    ),
    "a folder can't be synced, and need not be": (
        "test_a_durable_store_syncs_file_then_folders_then_name",
        "test_a_durable_store_syncs_two_times_in_a_folder_it_knows",
        "test_a_durable_store_syncs_folders_that_were_there_before_it_too",
        "test_a_durable_store_syncs_an_identical_file_before_it_says_so",
        "test_a_durable_store_syncs_what_it_puts_in_quarantine",
    ),
    "there are no named pipes in folders": ("test_an_import_passes_over_pipes_and_directories_of_media",),
    "no other process can be sent Ctrl-C alone": ("test_an_interrupted_import_goes_on_with_the_same_command",),
}
# What is different on Windows, and is tested in this folder as it is there.
_DIFFERENT = {
    "renames are not made by os.replace; see test_files_in_use": (
        "test_a_file_that_a_scanner_holds_on_windows_is_renamed_when_it_lets_go",
        "test_a_file_that_is_never_let_go_on_windows_is_given_up_after_a_second",
        "test_a_missing_permission_on_linux_is_said_at_once",
        "test_the_faults_do_happen[replace-a replacing one]",
    ),
    "a file that is open can't be removed by others; see test_files_in_use": (
        "test_close_leaves_nothing_behind_when_the_folder_was_removed_and_made_again",
        "test_a_folder_removed_under_our_feet_is_made_again",
        "test_a_file_is_taken_over_into_a_folder_removed_under_our_feet",
        "test_an_error_while_a_report_changes_its_root_names_the_root_it_goes_to",
        "test_incoming_removed_between_two_instances_is_made_again",
        "test_an_instance_whose_temporary_file_was_removed_is_refused",
        "test_a_root_that_is_gone_is_not_made_again",
        "test_a_root_that_came_back_is_used_again",
        "test_a_root_that_was_emptied_is_used_again_under_lock",
    ),
    "the disk ignores case; see test_names_on_disk": ("test_whether_the_disk_tells_case_is_found_out_at_the_start",),
    "the test reads lines without the \\r of Windows; see test_stopping": (
        "test_what_a_killed_store_had_under_way_is_removed_at_the_next_start",
    ),
    "the test spells paths with /": (
        "test_no_path_leaves_its_root",
        "test_a_dry_run_prints_the_places_and_touches_nothing",
        "test_a_store_that_does_not_open_is_one_line",
        "test_an_import_leaves_a_line_a_file_in_its_log",
        "test_a_file_that_cannot_be_put_aside_goes_on_and_says_so",
        "test_the_log_of_an_import_names_the_folders_of_an_archive_only_where_it_may_name_patients[1-old/DOE^JOHN/1.2.3.any]",
        "test_folders_that_can_not_be_read_are_told_and_the_others_are_imported",
        "test_a_folder_that_can_not_be_looked_at_is_one_line",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    met: set[str] = set()
    for item in items:
        met |= _names_of(item)
        for reason, names in (_SYSTEM | _DIFFERENT).items():
            if not _names_of(item).isdisjoint(names):
                item.add_marker(pytest.mark.skip(reason=f"on Windows, {reason}"))
    if unknown := {name for names in (_SYSTEM | _DIFFERENT).values() for name in names} - met:
        raise pytest.UsageError(f"{__file__} skips what no test is called any more: {', '.join(sorted(unknown))}")


def _names_of(item: pytest.Item) -> set[str]:
    """`test_x[a-b]`, `test_x`, `[a]` and `[b]`."""
    return {item.name, *_parts_of(item.name)}


def _parts_of(name: str) -> Iterator[str]:
    function, _, parameters = name.removesuffix("]").partition("[")
    yield function
    yield from (f"[{parameter}]" for parameter in parameters.split("-"))
