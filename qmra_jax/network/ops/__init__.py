"""Array operations that the network is made of, each in the form that is quickest here."""
