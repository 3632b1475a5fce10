"""Files and folders as data to add: streamed, checked, and resumable file by file."""
