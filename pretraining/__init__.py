"""How the weights that ship with the catalogue were made. Nothing of Scot needs these scripts to run."""
