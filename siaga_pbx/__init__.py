"""siaga-pbx: the daemon of a city's 112 emergency centre."""
