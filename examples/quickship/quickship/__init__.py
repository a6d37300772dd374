"""quickship: how long a trip really takes, learned weekly from the flights that have arrived."""
