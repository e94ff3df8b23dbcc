"""pcie/phy"""
