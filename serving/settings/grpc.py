"""Settings of the gRPC server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from serving.settings.section import Section


class GrpcSettings(Section):
    enabled: bool = Field(
        True, description="Serve TensorFlow Serving's API and the Open Inference Protocol over gRPC, beside HTTP."
    )
    host: str | None = Field(None, description="Address to listen on; empty: the one that HTTP listens on.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8500, description="All API workers share it.")
    certificate_file: Path | None = Field(
        None, description="PEM file of the server's certificate and its chain; with `private_key_file`, gRPC is TLS."
    )
    private_key_file: Path | None = Field(None, description="PEM file of the certificate's key.")
    client_ca_file: Path | None = Field(
        None, description="PEM file of authorities; only clients with a certificate of theirs are let in."
    )

    @model_validator(mode="after")
    def _whole_tls(self) -> GrpcSettings:
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("certificate_file and private_key_file are needed together")
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and private_key_file")
        return self
