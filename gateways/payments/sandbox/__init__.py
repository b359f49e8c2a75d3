"""The demo's payment gateway: a bank that moves no money, and the portal's side of it.

`store` is what the bank knows, `server` its pages and API, `client` the gateway as the portal sees
it, `control` the developer's side door. It is for the demo only.
"""
