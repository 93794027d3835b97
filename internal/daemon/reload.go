package daemon

import (
	"cmp"
	"context"
	"strings"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
)

// reloads applies a new configuration and key at each value of Reload, until ctx ends.
func (d *daemon) reloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.Reload:
			d.reload()
		}
	}
}

// reload gives the stages the settings that can change while they run, and names those that
// cannot. A configuration with an error changes nothing.
func (d *daemon) reload() {
	d.systemd.reloading()
	defer d.systemd.ready("taking runs from " + d.cfg.Drop.Dir)
	next, key, err := d.Load()
	var c *config.Config
	if err == nil {
		c = d.cfg.Reloaded(next)
	}
	if err == nil {
		err = d.hooks.configure(c)
	}
	if err != nil {
		d.log.Error("configuration or key cannot be read again, nothing was changed", zap.Error(err))
		return
	}
	applied, _ := config.Live(d.current, next)
	_, fixed := config.Live(d.cfg, next) // compared with the start, since these have not been applied
	if key != d.key {
		applied = append(applied, "the API key")
	}
	d.current, d.key = next, key
	d.pipeline.Configure(c)
	d.pipeline.API.SetKey(key)
	d.inbox.Configure(inboxConfig(c))
	d.rescan.Store(int64(c.Drop.Rescan))
	d.retention.Configure(c)
	d.Relog(c.Log)
	d.pipeline.Poller.Probe()
	d.log.Info("configuration and key read again", zap.String("changed", cmp.Or(strings.Join(applied, ", "), "nothing")))
	if len(fixed) > 0 {
		d.log.Warn("these settings change at the next start only", zap.String("keys", strings.Join(fixed, ", ")))
	}
}
