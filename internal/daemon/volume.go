package daemon

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/assetd/assetd/internal/daemon/logging"
	"github.com/assetd/assetd/internal/run"
)

// volumeInterval is how often the volume is checked while nothing uses it.
const volumeInterval = 5 * time.Second

// useVolume takes the volume into use at the start. An offline volume is reported, and work
// for it waits. The error is a setting that must be corrected.
func (d *daemon) useVolume() error {
	err := d.pipeline.Volume.Check() // does not hang
	if errors.Is(err, run.ErrVolumeOffline) {
		d.emit(run.Event{Kind: run.VolumeOffline, File: d.cfg.Storage.Dir, Err: err, Hint: "runs are taken and polled; downloads wait until it is back"})
		return nil
	}
	if err != nil {
		return err
	}
	d.gauges.measure()
	signal(d.checkVolume) // what takes long on a large volume is done once the daemon is ready
	return nil
}

// watchVolume checks the volume until ctx ends, so that its state is known also while no
// work waits for it, and removes what nobody needs. It may hang with the volume's file
// system, which a periodic job must not.
func (d *daemon) watchVolume(ctx context.Context) error {
	tick := time.NewTicker(volumeInterval)
	defer tick.Stop()
	swept := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.checkVolume:
		case <-tick.C:
		}
		switch err := d.pipeline.Volume.Check(); {
		case err == nil:
			d.emit(run.Event{Kind: run.VolumeBack, File: d.cfg.Storage.Dir})
			if !swept {
				swept = true
				d.sweep(ctx)
			}
			d.gauges.measure()
			if err := d.admin.Clear(ctx); err != nil && ctx.Err() == nil {
				d.log.Warn("what removed runs left on the volume could not be cleared", zap.Error(err))
			}
		case errors.Is(err, run.ErrVolumeOffline):
			d.emit(run.Event{Kind: run.VolumeOffline, File: d.cfg.Storage.Dir, Err: err})
		}
	}
}

// sweep removes the parts that nobody needs.
func (d *daemon) sweep(ctx context.Context) {
	n, err := d.pipeline.Sweep(ctx)
	if err != nil && ctx.Err() == nil {
		d.log.Warn("parts that nobody needs could not be removed", zap.Error(err))
	}
	if n > 0 {
		d.log.Info("parts that nobody needs were removed", zap.Int(logging.KeyCount, n))
	}
}
