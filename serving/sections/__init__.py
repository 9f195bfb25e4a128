"""The sections of configuration.yaml. Their descriptions are the configuration table of the README."""
