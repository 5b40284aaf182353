"""Settings -> what the layers below take: folders, policies, a store."""

import os
from collections.abc import Mapping
from pathlib import Path

from dcmstore.settings import Settings
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Duplicates, Store
from dcmstore.ul.negotiation import Policy


def roots_of(settings: Settings) -> dict[Root, Path]:
    return {Root.IMAGES: settings.img_dir, Root.DOSE_REPORTS: settings.rdsr_dir}


def filing_policy_of(settings: Settings) -> FilingPolicy:
    return FilingPolicy(
        folder_tree=settings.folder_tree,
        order_by_patient_id=settings.order_by_patient_id,
        order_by_study=settings.order_by_study,
        order_by_series=settings.order_by_series,
        rdsr_tree=settings.rdsr_tree,
        sr_sub=settings.sr_sub,
        image_name_index=settings.image_name_index,
        media_names=settings.dicomdir,
    )


def store_of(settings: Settings) -> Store:
    return Store(
        {root: os.fspath(folder) for root, folder in roots_of(settings).items()},
        filing_policy_of(settings),
        durable=settings.durable,
        duplicates=Duplicates(settings.duplicates),
    )


def negotiation_policy_of(settings: Settings, profile: Mapping[str, tuple[str, ...]] | None) -> Policy:
    """`profile` is what alone is accepted, as Policy has it."""
    return Policy(
        ae_title=settings.local_ae,
        max_length_received=settings.max_pdu,
        check_called_ae_title=settings.check_called_ae,
        allowed_calling_ae_titles=settings.allowed_ae,
        accept_unknown=settings.accept_unknown,
        prefer_syntax=settings.prefer_syntax,
        profile=profile,
    )
