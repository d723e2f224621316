"""The contracts of models and providers, to be called from a plug-in's own tests; needs no test framework.

>>> from rs_embed.testing import check_model
>>> print(check_model("rcf", options={"features": 8}))  # doctest: +ELLIPSIS
model rcf
  passed  description
  ...
"""

from __future__ import annotations

from rs_embed.testing.models import check_model
from rs_embed.testing.providers import check_provider
from rs_embed.testing.report import Check, ContractError, Report

__all__ = ["Check", "ContractError", "Report", "check_model", "check_provider"]
