"""what was stored -> what its owner wants done then: commands, webhooks and copies, behind the acknowledgement.

What a sender wrote is hostile here too: it becomes an argument in arguments.py only.
"""

# The kinds of jobs that hooks make
COMMAND, WEBHOOK, COPY = "command", "webhook", "copy"

# The events that hooks are for
STORED, STUDY_COMPLETE = "stored", "study-complete"
