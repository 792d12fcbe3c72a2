"""What operators may see and do: who they are, what each may, and a record of all of it that cannot be changed unseen.

``permissions`` is the table. ``desk`` is the only way to data: it checks, does the thing and writes the audit entry in one
transaction. ``views`` and ``actions`` of each domain stand in a module of its own, and ``registry`` names them all; the console, the
admin API and ``subrosa admin`` are made from the registry. Nothing in the relay imports this package.
"""
