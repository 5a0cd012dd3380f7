"""mzQC, the exchange format of HUPO-PSI for quality metrics: written and read."""
