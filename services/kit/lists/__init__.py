"""List RPCs: filters, order, pages."""
