package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// saved counts the assets that are whole below dir, by their hashes. What has a
// name with a dot in front is not there for users, and is not counted.
func saved(dir string, assets []asset) (int, error) {
	wanted := map[int64]bool{} // sizes: nothing else is worth hashing
	for _, a := range assets {
		wanted[a.Size] = true
	}
	var paths []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != dir && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		}
		info, err := e.Info()
		if err == nil && wanted[info.Size()] {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	sums := make([]string, len(paths))
	var work errgroup.Group
	work.SetLimit(runtime.NumCPU())
	for i, path := range paths {
		work.Go(func() (err error) {
			sums[i], err = sum(path)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return 0, err
	}
	return count(sums, assets), nil
}

// count is how many of the assets are among the sums.
func count(sums []string, assets []asset) (n int) {
	there := map[string]bool{}
	for _, s := range sums {
		there[s] = true
	}
	for _, a := range assets {
		if there[a.SHA256] {
			n++
		}
	}
	return n
}

// sum is the SHA-256 of a file in hex.
func sum(path string) (string, error) {
	f, err := os.Open(path)
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
