"""The ways by which a message leaves: mail, a webhook, and whatever apprise reaches."""
