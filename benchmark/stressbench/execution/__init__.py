"""From a request to records: planning, loading models, predicting, measuring, storing."""
