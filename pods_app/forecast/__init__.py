"""How an apply would start if its plan were confirmed now, in words, before anybody does."""

from pods_app.forecast.facts import forecast_of
from pods_app.forecast.paths import Forecast, WhyNot

__all__ = ["Forecast", "WhyNot", "forecast_of"]
