//go:build !linux

package queue

// Suitable accepts every file system: only Linux tells them apart here.
func Suitable(string) (warning string, err error) { return "", nil }
