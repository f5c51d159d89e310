"""Pictures in tar files, as WebDataset lays them out: for sets that no disk has twice."""
