"""Names of hosts: asking name servers without holding up a worker, remembering answers, and RFC 3263 on top.

``records`` what is remembered · ``client`` questions to name servers · ``resolver`` both together · ``locate`` next hops out of records ·
``blocklist`` destinations that are known to be down
"""
