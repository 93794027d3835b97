package backlog

import "github.com/assetd/assetd/internal/run"

// Part is an asset's part on disk.
type Part struct {
	Key  run.Key
	Size int64 // bytes it holds on disk
}

// Evict says which parts to delete, in this order, so that need bytes fit where
// free are left: as few from the front of the list as do. False: all of them
// would not do, so none is to be deleted.
func Evict(need, free int64, parts []Part) (keys []run.Key, ok bool) {
	for _, p := range parts {
		if free >= need {
			break
		}
		free += p.Size
		keys = append(keys, p.Key)
	}
	if free < need {
		return nil, false
	}
	return keys, true
}
