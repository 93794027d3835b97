package pipeline

import (
	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/download"
	"github.com/assetd/assetd/internal/magnific"
	"github.com/assetd/assetd/internal/poller"
	"github.com/assetd/assetd/internal/server"
	"github.com/assetd/assetd/internal/storage"
	"github.com/assetd/assetd/internal/transfer"
)

// APIConfig returns the settings of the API's client.
func APIConfig(c *config.Config) magnific.Config {
	return magnific.Config{
		BaseURL: c.API.BaseURL, RunsPath: c.API.RunsPath, Rate: c.API.Rate, Burst: c.API.Burst,
		Timeout: c.API.Timeout, Proxy: c.API.Proxy,
	}
}

// RunsPath returns api.runs_path as it is shown to people.
func RunsPath(c *config.Config) string {
	if c.API.RunsPath == magnific.AutoPath {
		return "auto: " + magnific.AppsPath + ", then " + magnific.FlowsPath
	}
	return c.API.RunsPath
}

func pollConfig(c *config.Config) poller.Config {
	return poller.Config{
		MinInterval: c.Poll.MinInterval, MaxInterval: c.Poll.MaxInterval,
		GiveUpAfter: c.Poll.GiveUpAfter, NotFoundAfter: c.Poll.NotFoundAfter,
	}
}

// TransferConfig returns the settings of the client that fetches assets.
func TransferConfig(c *config.Config) transfer.Config {
	d := c.Download
	return transfer.Config{
		AllowHTTP: d.AllowHTTP, AllowNetworks: d.AllowNetworks, MaxSize: d.MaxSize, StallTimeout: d.StallTimeout,
		MaxRate: d.MaxRate, UserAgent: d.UserAgent, Proxy: d.ProxyURL(), IdlePerHost: d.Workers + d.Connections, Connections: d.Connections,
	}
}

// StorageConfig returns the settings of the volume.
func StorageConfig(c *config.Config) storage.Config {
	s := c.Storage
	return storage.Config{
		Dir: s.Dir, Default: s.Default, Mounted: s.Mounted, RunDir: s.RunDir, FileName: s.FileName,
		MinFree: s.MinFree, FileMode: s.FileMode, DirMode: s.DirMode,
	}
}

func poolConfig(c *config.Config) download.Config {
	d := c.Download
	return download.Config{
		Workers: d.Workers, MaxOpen: affordable(d.MaxOpen), HostRate: d.HostRate, Margin: d.Margin, GiveUpAfter: d.GiveUpAfter, LostAfter: d.LostAfter,
	}
}

const (
	// filesPerTransfer is how many open files one held transfer needs: its connection, its
	// part, and the directory and marker through which the part is reached.
	filesPerTransfer = 4
	// otherFiles is how many open files everything else needs, including the transfers that
	// are parked (see package download).
	otherFiles = 192 + 64*filesPerTransfer
)

// affordable reduces the number of connections to hold to what the limit of open files
// permits, after those of the server's clients.
func affordable(open int) int {
	files := server.OpenFiles()
	other := uint64(otherFiles + server.MostConnections(files))
	return int(min(uint64(max(open, 0)), (max(files, other)-other)/filesPerTransfer))
}
