"""The studies: one file each, listed here with one line and imported when run."""

STUDIES = {
    "layerwise": "prune a network's weights layer by layer with ratios that evolution finds (after Wu et al. 2021)",
}
