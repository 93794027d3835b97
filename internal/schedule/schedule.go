// Package schedule runs a fixed set of short jobs at fixed intervals.
//
// A job never overlaps with itself, and a panic ends neither the job nor the schedule.
// Nothing may depend on a single run of a job: what is due is recorded in the queue, so a
// run that is lost, late or repeated loses nothing.
package schedule

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

// Job is done every interval. Do must return within milliseconds, since the schedule waits
// for it when it closes: it wakes the stage that does the work.
type Job struct {
	Name  string
	Every time.Duration
	Do    func(ctx context.Context)
}

// Schedule is a running set of jobs.
type Schedule struct {
	cron gocron.Scheduler
	stop sync.Once
}

// closeTimeout is how long Close waits for jobs that run.
const closeTimeout = time.Second

// Start starts the jobs. A panic is logged, and the job runs again after its interval.
func Start(jobs []Job, log *zap.Logger) (*Schedule, error) {
	cron, err := gocron.NewScheduler(
		gocron.WithLocation(time.UTC),
		gocron.WithStopTimeout(closeTimeout),
		gocron.WithLogger(cronLog{log.Named("gocron").Sugar()}),
	)
	if err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	for _, j := range jobs {
		// gocron's singleton mode can overlap when a job is new; the lock cannot.
		var running sync.Mutex
		task := func(ctx context.Context) {
			if !running.TryLock() {
				return
			}
			defer running.Unlock()
			j.Do(ctx)
		}
		_, err := cron.NewJob(
			gocron.DurationJob(j.Every), gocron.NewTask(task), gocron.WithName(j.Name),
			gocron.WithSingletonMode(gocron.LimitModeReschedule), gocron.WithIntervalFromCompletion(),
			gocron.WithEventListeners(gocron.AfterJobRunsWithPanic(func(_ uuid.UUID, name string, panicked any) {
				log.Error("panic in a job, carried on", zap.String("job", name), zap.Any("panic", panicked), zap.Stack("stack"))
			})),
		)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("scheduling %s: %w", j.Name, err), cron.Shutdown())
		}
	}
	cron.Start()
	return &Schedule{cron: cron}, nil
}

// Close stops the jobs. Those that run get a second to return.
func (s *Schedule) Close() (err error) {
	s.stop.Do(func() { err = s.cron.Shutdown() })
	if err != nil {
		err = fmt.Errorf("stopping the scheduler: %w", err)
	}
	return err
}

// cronLog writes gocron's own messages to the log, except for its debug lines: there is one
// for every run of a job.
type cronLog struct{ log *zap.SugaredLogger }

func (cronLog) Debug(string, ...any)            {}
func (c cronLog) Info(msg string, args ...any)  { c.log.Debugw(msg, "args", args) }
func (c cronLog) Warn(msg string, args ...any)  { c.log.Warnw(msg, "args", args) }
func (c cronLog) Error(msg string, args ...any) { c.log.Errorw(msg, "args", args) }
