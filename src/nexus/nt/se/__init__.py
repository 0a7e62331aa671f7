"""Security: tokens, stored descriptors, and the access check of NtAccessCheck."""
