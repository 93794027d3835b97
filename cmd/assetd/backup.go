package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/assetd/assetd/internal/config"
	"github.com/assetd/assetd/internal/daemon/maintenance"
	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/server"
)

func (a *app) backupCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "copy the queue, also while the daemon runs",
		Long: `Writes a copy of the queue to FILE, checked and safely on disk before the command
ends. It works whether or not the daemon is running. A copy holds no signed URL and not
the API key. The daemon makes copies by itself as well: see backup.interval.`,
		Example: example("assetd backup queue.db", "assetd restore queue.db"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.backup(cmd.Context(), args[0], force) },
	}
	cmd.ValidArgsFunction = proposeFiles
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	return cmd
}

func proposeFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func (a *app) backup(ctx context.Context, file string, force bool) (err error) {
	c, err := a.load()
	if err != nil {
		return err
	}
	if err := mayWrite(c, file, force); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part") // 0600
	var cause *fs.PathError
	if errors.As(err, &cause) { // its path is one that nobody has named
		return fmt.Errorf("%s cannot be written: %w: name a file in a directory that is there and that you may write to", file, cause.Err)
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name()) //nolint:errcheck // the first error is returned
		}
	}()
	made, err := copyQueue(ctx, c, temp)
	if err != nil {
		return err
	}
	if err := durable.Publish(temp.Name(), file, force); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s: queue %s with %d runs, %s, as of %s\n", file, made.ID, made.Runs,
		humanize.IBytes(uint64(max(made.Size, 0))), made.At.Format("2006-01-02 15:04:05Z"))
	return err
}

// mayWrite says why a copy may not be put there.
func mayWrite(c *config.Config, file string, force bool) error {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("backup: %w", err)
	case !info.Mode().IsRegular():
		return withCode(exitUsage, "%s is not a regular file: name another one", file)
	}
	if q, err := os.Stat(boltkv.Path(c.State.Dir)); err == nil && os.SameFile(q, info) {
		return withCode(exitUsage, "%s is the queue itself: name another file", file)
	}
	if !force {
		return fmt.Errorf("%s is there already: name another file, or replace it with --force", file)
	}
	return nil
}

// copyQueue fills temp with a copy: the daemon's, or the file's where none runs.
func copyQueue(ctx context.Context, c *config.Config, temp *os.File) (queue.Copy, error) {
	err := client(c).Backup(ctx, temp)
	if errors.Is(err, server.ErrNoDaemon) {
		return noDaemonCopy(ctx, c, temp)
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return queue.Copy{}, fmt.Errorf("backup: %w", err)
	}
	made, err := queue.Verify(temp.Name())
	if err != nil {
		return made, fmt.Errorf("backup: what the daemon sent is not a complete copy: %w", err)
	}
	return made, nil
}

func noDaemonCopy(ctx context.Context, c *config.Config, temp *os.File) (queue.Copy, error) {
	if err := temp.Close(); err != nil {
		return queue.Copy{}, fmt.Errorf("backup: %w", err)
	}
	return maintenance.BackupQueue(ctx, c, temp.Name())
}
