package daemon

import (
	"cmp"
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/config"
)

// reloads takes a new configuration and key each time it is asked to.
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

// reload gives the stages what can change while they run, and names what cannot.
// A configuration that is wrong changes nothing.
func (d *daemon) reload() {
	d.notify.reloading()
	defer d.notify.ready("taking runs from " + d.cfg.Drop.Dir)
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
	_, fixed := config.Live(d.cfg, next) // what runs is what was there at the start
	if key != d.key {
		applied = append(applied, "the API key")
	}
	d.current, d.key = next, key
	d.pipeline.Configure(c)
	d.pipeline.API.SetKey(key)
	d.inbox.Configure(inboxConfig(c))
	d.every.Store(int64(c.Drop.Rescan))
	d.retention.Configure(c)
	d.Relog(c.Log)
	d.pipeline.Poller.Probe()
	d.log.Info("configuration and key read again", zap.String("changed", cmp.Or(strings.Join(applied, ", "), "nothing")))
	if len(fixed) > 0 {
		d.log.Warn("these settings change at the next start only", zap.String("keys", strings.Join(fixed, ", ")))
	}
}

// rescan has the inbox look at its directory when drop.rescan has passed, as that is
// at the moment.
func (d *daemon) rescan() func(context.Context) {
	d.every.Store(int64(d.cfg.Drop.Rescan))
	last := time.Now()
	return func(context.Context) {
		if time.Since(last) >= time.Duration(d.every.Load()) {
			last = time.Now()
			d.inbox.Wake()
		}
	}
}
