"""The advisory admission webhook: warns about edits of Providers and never stops one."""
