package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// summary shows how each run ended and the tree of files, and holds every stored
// file against what the simulator made.
func (d *demo) summary(ctx context.Context) error {
	runs, err := d.runs(ctx)
	if err != nil {
		return err
	}
	d.out.printf("\n")
	table := newTable(narrow(d.out.w))
	fmt.Fprintln(table, "RUN\tAPI\tOUTCOME\tASSETS\tSIZE\tNOTE")
	for _, r := range runs {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d of %d\t%s\t%s\n", r.RunID, r.Status, r.State, r.Stored, r.Assets, humanize.IBytes(uint64(r.Bytes)), clean(note(r)))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	assets := filepath.Join(d.dir, "assets")
	d.out.printf("\n%s\n", assets)
	if err := d.tree(assets, ""); err != nil {
		return err
	}
	stored, err := d.compare(assets, runs)
	if err != nil {
		return err
	}
	d.out.printf("\n%d files, each compared by SHA-256 with what the simulator made: all equal\n", stored)
	d.out.printf("open them: %s\n", assets)
	return d.out.err
}

// tree draws a directory, the long ones cut short.
func (d *demo) tree(dir, indent string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	const most = 6
	for i, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if i == most && len(entries) > most+1 && !e.IsDir() {
			d.out.printf("%s  … and %d more\n", indent, len(entries)-most)
			break
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !e.IsDir() {
			d.out.printf("%-44s %9s\n", indent+"  "+e.Name(), humanize.IBytes(uint64(info.Size())))
			continue
		}
		d.out.printf("%s  %s/\n", indent, e.Name())
		if err := d.tree(filepath.Join(dir, e.Name()), indent+"  "); err != nil {
			return err
		}
	}
	return nil
}

// compare holds each stored file against the simulator's own, and says how many
// there are.
func (d *demo) compare(assets string, runs []server.Run) (int, error) {
	made := map[run.Key]string{}
	for _, r := range d.sim.Expected() {
		for _, a := range r.Assets {
			made[a.Key] = a.SHA256
		}
	}
	for _, r := range runs {
		full, err := d.client.Run(context.Background(), r.RunID)
		if err != nil {
			return 0, err
		}
		for _, as := range full.AssetList {
			key := run.Key{Run: r.RunID, Kind: as.Kind, ID: as.ID}
			sum, err := fileSum(filepath.Join(assets, filepath.FromSlash(path.Join(r.Dir, as.File))))
			if err != nil {
				return 0, err
			}
			if sum != made[key] {
				return 0, fmt.Errorf("%s differs from what the simulator made: please report this with %s", key, d.logFile())
			}
			delete(made, key)
		}
	}
	if len(made) > 0 {
		return 0, fmt.Errorf("%s missing: please report this with %s", english.Plural(len(made), "asset", ""), d.logFile())
	}
	return d.countFiles(assets)
}

func (d *demo) countFiles(assets string) (n int, err error) {
	err = filepath.WalkDir(assets, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && e.Name() == ".assetd" {
			return fs.SkipDir
		}
		if !e.IsDir() && e.Name() != "manifest.json" && e.Name() != "SHA256SUMS" {
			n++
		}
		return nil
	})
	return n, err
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
