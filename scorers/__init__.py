"""Every built-in plugin, one file each; they import epp.api only, as yours would."""
