package daemon

import (
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
)

// newPool joins the pool with the stages around it.
func (e *engine) newPool(c *config.Config, q download.Queue, tell run.Tell) *download.Pool {
	return download.New(poolConfig(c), download.Deps{
		Queue: q, Volume: shelves{e.volume}, Fetcher: e.fetcher, Clock: e.clock, Service: e.service,
		Prepare: e.settler.Prepare, Renew: e.poller.Renew,
		Ready: func([]run.ID) { e.settler.Wake() }, Tell: tell, Broken: e.broken,
	})
}

// shelves is the volume with its parts as the pool knows them.
type shelves struct{ *storage.Volume }

// Part opens an asset's part. The nil check keeps an interface from holding a nil
// pointer.
func (s shelves) Part(key run.Key) (download.Part, error) {
	p, err := s.Volume.Part(key)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// now is what the server can tell beside the queue.
type now struct {
	*status
	pool *download.Pool
}

// InFlight is all transfers that run.
func (n now) InFlight() []server.Transfer {
	flights := n.pool.InFlight()
	all := make([]server.Transfer, 0, len(flights))
	for _, t := range flights {
		all = append(all, server.Transfer{Key: t.Key, Received: t.Bytes, Total: t.Total})
	}
	return all
}

// What one held transfer needs of this process's open files: its connection, its
// part, and the directory and marker it is reached through; and what all else does.
const (
	filesEach = 4
	filesElse = 192 + 64*filesEach // with the transfers that are parked, see package download
)

// affordable is as many connections to hold as there may be open files for, besides those
// of the server's clients.
func affordable(open int) int {
	files := server.OpenFiles()
	other := uint64(filesElse + server.MostConnections(files))
	return int(min(uint64(max(open, 0)), (max(files, other)-other)/filesEach))
}

func poolConfig(c *config.Config) download.Config {
	d := c.Download
	return download.Config{
		Workers: d.Workers, MaxOpen: affordable(d.MaxOpen), HostRate: d.HostRate, Margin: d.Margin, GiveUpAfter: d.GiveUpAfter, LostAfter: d.LostAfter,
	}
}
