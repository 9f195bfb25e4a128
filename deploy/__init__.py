"""How the service is packaged and run. Not part of what is packaged."""
