"""The studies: one file each, listed here with one line and imported when run."""

STUDIES = {
    "layerwise": "prune a network's weights layer by layer with ratios that evolution finds (after Wu et al. 2021)",
    "channels": "cut whole channels to a set rate: by search, trained gates or utility (after Qi et al. 2021)",
    "har": "recognise activities: eight recurrent nets, pruned by weight and unit (after Mekruksavanich et al. 2021)",
}
