package main

import "github.com/spf13/cobra"

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "config",
		Short:   "print the configuration in force, secrets masked",
		Long:    "Prints every key with its value and where that comes from: --set, environment, file or default.",
		Example: example("assetd config", "assetd config --config assetd.yaml --set api.rate=20"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadAndWarn()
			if err != nil {
				return err
			}
			return c.Print(a.stdout)
		},
	}
}
