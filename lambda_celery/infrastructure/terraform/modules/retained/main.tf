# Refuses a plan that would destroy, rename or replace a queue. Each queue has a resource here
# that may not be destroyed, and that a new name would replace.

terraform {
  required_version = ">= 1.9"
}

variable "names" {
  type        = map(string)
  description = "What is kept: its key here to its name on AWS."
}

resource "terraform_data" "this" {
  for_each = var.names

  triggers_replace = each.value

  lifecycle {
    prevent_destroy = true
  }
}
