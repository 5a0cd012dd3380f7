"""What is known of instruments and disks right now, in words."""
