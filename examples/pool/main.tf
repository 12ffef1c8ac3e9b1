# What scripts/demo --story plans in each of its ten workspaces. terraform_data is built into
# Terraform: nothing is downloaded. Each time it is really created, one line is added to a file.

terraform {
  required_version = ">= 1.4"
}

variable "name" {
  type        = string
  description = "The line that is added."
}

variable "ledger" {
  type        = string
  description = "Absolute path of the file; it lies on the machine or in the pod that applies."
  default     = "/dev/null"
}

resource "terraform_data" "service" {
  input = var.name

  provisioner "local-exec" {
    command     = "echo \"$NAME\" >> \"$LEDGER\""
    environment = { NAME = var.name, LEDGER = var.ledger }
  }
}

output "name" {
  value = terraform_data.service.output
}
