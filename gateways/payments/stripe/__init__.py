"""Stripe: hosted Checkout for paying and for saving a method, charges from saved methods, refunds,
disputes. `gateway` is what the portal sees, `line` how calls leave, `reading` what answers mean."""
