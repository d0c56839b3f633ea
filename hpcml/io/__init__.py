"""Everything that crosses disks."""
