package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/google/uuid"
	"go.uber.org/zap"
)

// job is something done again and again. It hands out work and returns within
// milliseconds: gocron cancels running jobs when it stops and then only waits.
type job struct {
	name  string
	every time.Duration
	do    func(ctx context.Context)
}

// schedule is the fixed set of ticks. Nothing depends on one of them: what is due
// stands in the queue, so a tick that is lost, late or doubled loses nothing.
type schedule struct {
	cron gocron.Scheduler
	stop sync.Once
}

// How long the scheduler may wait for its jobs when it stops.
const jobStopTime = time.Second

// newSchedule starts the jobs. A panicking job is told and runs again at its next
// tick.
func newSchedule(jobs []job, log *zap.Logger) (*schedule, error) {
	cron, err := gocron.NewScheduler(
		gocron.WithLocation(time.UTC),
		gocron.WithStopTimeout(jobStopTime),
		gocron.WithLogger(cronLog{log.Named("gocron").Sugar()}),
	)
	if err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	for _, j := range jobs {
		// gocron's singleton mode can overlap by a hair when a job is new; the lock cannot.
		var running sync.Mutex
		task := func(ctx context.Context) {
			if !running.TryLock() {
				return
			}
			defer running.Unlock()
			j.do(ctx)
		}
		_, err := cron.NewJob(
			gocron.DurationJob(j.every), gocron.NewTask(task), gocron.WithName(j.name),
			gocron.WithSingletonMode(gocron.LimitModeReschedule), gocron.WithIntervalFromCompletion(),
			gocron.WithEventListeners(gocron.AfterJobRunsWithPanic(func(_ uuid.UUID, name string, panicked any) {
				log.Error("panic in a job, carried on", zap.String("job", name), zap.Any("panic", panicked), zap.Stack("stack"))
			})),
		)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("scheduling %s: %w", j.name, err), cron.Shutdown())
		}
	}
	cron.Start()
	return &schedule{cron: cron}, nil
}

// close ends the ticks. Jobs that run are given a second.
func (s *schedule) close() (err error) {
	s.stop.Do(func() { err = s.cron.Shutdown() })
	if err != nil {
		err = fmt.Errorf("stopping the scheduler: %w", err)
	}
	return err
}

// cronLog passes gocron's own messages on. Its debug lines are one a tick: left out.
type cronLog struct{ log *zap.SugaredLogger }

func (cronLog) Debug(string, ...any)            {}
func (c cronLog) Info(msg string, args ...any)  { c.log.Debugw(msg, "args", args) }
func (c cronLog) Warn(msg string, args ...any)  { c.log.Warnw(msg, "args", args) }
func (c cronLog) Error(msg string, args ...any) { c.log.Errorw(msg, "args", args) }
