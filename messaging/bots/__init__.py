"""The bot gateway: a local HTTP API over end-to-end encrypted accounts. It runs at the bot's owner; keys stay there."""
