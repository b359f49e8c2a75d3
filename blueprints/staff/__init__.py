"""What the ISP's own people do: today by commands, loading the catalog and importing accounts."""
