"""Trees: forests, gradient boosting, and the dumps of other libraries, as one TreeEnsemble."""
