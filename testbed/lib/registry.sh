start_registry() { :; }
