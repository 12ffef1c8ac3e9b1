// A Terraform provider for tests: resources that are slow, fail, or are counted.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
)

// address is set by the linker, so that one source serves several registry addresses.
var address = "registry.terraform.io/slipway/fault"

type faultProvider struct{}

func (faultProvider) Metadata(_ context.Context, _ provider.MetadataRequest, response *provider.MetadataResponse) {
	response.TypeName = "fault"
}

func (faultProvider) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

func (faultProvider) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}

func (faultProvider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return fileData{} }}
}

func (faultProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return faultResource{} }}
}

func main() {
	err := providerserver.Serve(
		context.Background(),
		func() provider.Provider { return faultProvider{} },
		providerserver.ServeOpts{Address: address},
	)
	if err != nil {
		log.Fatal(err)
	}
}
