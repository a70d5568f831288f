"""Model cards, the checks before publishing, and the upload to the Hub."""
