install_stage() { :; }
