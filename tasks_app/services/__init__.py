"""What people, programs and agents may do. Each function checks, locks, changes and audits."""
