package main

import (
	"context"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// fileData writes a file when it is read, as archive_file does: the plan writes, the apply reads.
type fileData struct{}

type fileModel struct {
	Path    types.String `tfsdk:"path"`
	Content types.String `tfsdk:"content"`
}

func (fileData) Metadata(_ context.Context, request datasource.MetadataRequest, response *datasource.MetadataResponse) {
	response.TypeName = request.ProviderTypeName + "_file"
}

func (fileData) Schema(_ context.Context, _ datasource.SchemaRequest, response *datasource.SchemaResponse) {
	response.Schema = schema.Schema{
		Attributes: map[string]schema.Attribute{
			"path":    schema.StringAttribute{Required: true, Description: "The file to write."},
			"content": schema.StringAttribute{Required: true},
		},
	}
}

func (fileData) Read(ctx context.Context, request datasource.ReadRequest, response *datasource.ReadResponse) {
	var model fileModel
	response.Diagnostics.Append(request.Config.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	if err := os.WriteFile(model.Path.ValueString(), []byte(model.Content.ValueString()), 0o644); err != nil {
		response.Diagnostics.AddError("The file was not written", err.Error())
		return
	}
	response.Diagnostics.Append(response.State.Set(ctx, &model)...)
}
