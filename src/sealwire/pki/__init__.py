"""A small certificate authority: issue, renew and revoke, on top of ``cryptography``.

Belongs here: anything about certificates that needs neither a connection nor a decision to trust one.

authority      creates a CA and issues leaf certificates
csr            certificate signing requests, and renewal
crl            certificate revocation lists
renewal        how to replace what ends, as commands
subject_names  the grammar of names in certificates
extensions     reads extensions, which may be missing
pem            reads and writes PEM
files          writes private and public files
"""
