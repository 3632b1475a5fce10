"""What is known of each column: rows counted by stamp, and whether others wrote behind our back."""
