"""Reports: tables, figures and one page, from results that are already there."""
